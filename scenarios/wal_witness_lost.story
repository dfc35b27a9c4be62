# (g): the witness dies, and writes go on with the standby; it comes back; then its disk is lost, and a new life of it
# counts only for what it has acknowledged itself.
cluster n1 n2 witness w wal durability quorum
lead n1
write w1
kill w
write w2
expect rule n2 within 10s
start w
expect rule n2 w within 20s
write w3
kill w
expect rule n2 within 10s
start w
wipe w
write w4
expect rule n2 w within 30s
kill n1
expect leader n2 within 3s
expect durable w4
write w5
