"""
`wsgi-proxy doctor`: an upstream and the server itself are asked step by step what they can do.

| module | is about |
|---|---|
| `results` | what a check returns: a level, a sentence, and what to do |
| `case` | one upstream with one key: how it is asked, and what was found out so far |
| `exchange` | one request, and everything that can be told of its answer |
| `faults` | what went wrong with a request, in words, and what to do |
| `reach`, `address`, `streaming`, `turns`, `memory`, `body`, `upgrade` | the checks of an upstream, a kind each |
| `server` | the checks of a server of ours, through whatever stands in front of it |
| `steps` | tables: the checks in their order, and what each needs |
| `run` | carries out a table: a time limit for each check, and no exception gets out |
| `plan` | from the command line and the settings to what is to be examined |
| `verdict`, `stanza`, `report` | what comes of it: a verdict, a table for the settings file, text and JSON |
| `words`, `progress` | what is shown, without secrets and control characters, and while it runs |

A check is a function of a case that returns a result. What it finds out for others goes into `case.found`.
"""
