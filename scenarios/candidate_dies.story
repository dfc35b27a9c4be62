# The elected one dies before it opens; the next term holds both rules.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n1 postmaster
wait 170ms
kill n2
expect leader n1|n3 within 10s
expect durable w1
start n2
expect rule all within 30s
