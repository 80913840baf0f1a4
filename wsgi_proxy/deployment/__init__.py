"""
Files of other programs that run the proxy, stand before it or show what it does, made from its settings.

`place`
    Where things are on the machine that the files are for.
`systemd`, `nginx`, `haproxy`, `logrotate`
    One function each, which returns the text of the file.
`grafana`
    A dashboard, made from a table of panels; a test compares its queries with the metrics that there are.
"""
