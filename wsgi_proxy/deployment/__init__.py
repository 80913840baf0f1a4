"""
Files of other programs that run the proxy, or stand before it, made from its settings.

`place`
    Where things are on the machine that the files are for.
`systemd`, `nginx`, `haproxy`, `logrotate`
    One function each, which returns the text of the file.
"""
