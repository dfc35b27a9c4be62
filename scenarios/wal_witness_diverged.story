# C-10: a witness outside the rule has WAL that the next leader has not: its word is believed again only after it has
# dropped that and has what the leader has.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
kill w
expect rule n2 within 10s
pause                           # so that it is not let into the rule again
start w
wait 1s
cut n1 n2
write w2 on n1                  # w gets it; nobody can acknowledge it
wait 1s
kill n1
failover n2
expect leader n2 within 5s
expect unacked w2
resume
expect rule w within 20s
write w3
heal
start n1
expect rule n1 w within 30s
kill n2
expect leader n1 within 3s
expect durable w3
