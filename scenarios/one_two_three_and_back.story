# From one node to two to three and back to one; nothing is ever lost.
cluster n1 durability quorum
lead n1
write w1
add n2
expect rule n2 within 30s
write w2
add n3
expect rule n2 n3 within 30s
write w3
remove n2
expect gone n2 within 10s
remove n3
expect gone n3 within 10s
expect rule nobody
write w4
kill n1 postmaster
expect leader n1 within 5s
expect durable w4
