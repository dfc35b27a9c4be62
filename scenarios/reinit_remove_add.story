# A member is made anew, one is taken out, one is added; writes go on.
cluster n1 n2 n3 durability quorum
lead n1
reinit n2
expect rule n3 within 10s
expect rule n2 n3 within 30s
remove n3
expect gone n3 within 10s
expect rule n2
write w1
add n4
expect rule n2 n4 within 30s
switchover n4
expect leader n4 within 3s
write w2
