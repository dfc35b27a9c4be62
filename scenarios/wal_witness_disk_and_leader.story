# C-10, (g): the witness's disk is lost just after it alone acknowledged, and then the leader's host: nobody may be elected,
# since nobody is left who knows what was acknowledged, until the leader is back.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
cut n1 n2
write w2                        # leader and witness only
kill n1
kill w
heal
start w
wipe w
expect no leader for 10s
start n1
expect leader n1 within 10s
expect durable w2
expect rule n2 w within 30s
write w3
