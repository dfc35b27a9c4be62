# (g): the standby is down and then the leader is lost: the witness has everything and can't lead. When the
# standby is back it catches up from the witness, and nothing is lost.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
kill n2
write w2
expect rule w within 10s
write w3
kill n1
expect no leader for 10s
start n2
expect leader n2 within 10s
expect durable w3
write w4
start n1
expect rule n1 w within 30s
