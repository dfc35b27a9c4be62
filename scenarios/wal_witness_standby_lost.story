# (g): two data nodes and a witness that keeps WAL. The standby dies and writes go on with the witness.
cluster n1 n2 witness w wal durability quorum
lead n1
expect rule n2 w
write w1
kill n2
write w2                        # at once, with w alone
expect rule w within 10s
write w3
start n2
expect rule n2 w within 20s
write w4
kill n1
expect leader n2 within 3s
expect durable w2
expect durable w4
write w5
expect rule w within 10s
