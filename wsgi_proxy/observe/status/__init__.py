"""What a status page tells: of this worker, of all together, and of one session with what was said in it."""
