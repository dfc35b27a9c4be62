# Power loss everywhere at once, then power.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n1
kill n2
kill n3
wait 3s
start n1
start n2
start n3
expect leader n1|n2|n3 within 20s
expect durable w1
write w2
expect rule all within 30s
