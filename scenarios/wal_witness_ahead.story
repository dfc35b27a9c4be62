# (g), (a) 5: the leader's host is lost while only the witness had its last commits: the standby fetches them.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
cut n1 n2
write w2                        # n2 does not have it
write w3
kill n1
expect term 2 leader n2 within 3s
expect durable w2
expect durable w3
write w4                        # with w alone, at once
heal
start n1
expect rule n1 w within 30s
write w5
