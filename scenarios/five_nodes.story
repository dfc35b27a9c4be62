# Two acknowledgements of four; two hosts lost at once, the leader among them.
cluster n1 n2 n3 n4 n5 durability quorum acks 2
lead n1
write w1
kill n1
kill n2
expect leader n3|n4|n5 within 3s
expect durable w1
write w2
start n1
start n2
expect rule all within 40s
