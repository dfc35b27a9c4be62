# C-14: of two standbys that are behind the witness the better one can't reach it; after a while the other fetches, too.
cluster n1 n2 n3 witness w wal witness v durability quorum
lead n1
write w1
cut n1 n2
cut n1 n3
write w2
kill n1
heal
cut n2 w
expect leader n3 within 15s
expect durable w2
write w3
heal
start n1
expect rule n1 n2 w within 30s
