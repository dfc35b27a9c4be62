# One standby is gone for good, then the leader crashes and comes back with a tail: the cluster heals without the dead one.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
kill n3
expect rule n2 within 10s
write w1
cut n1 n2
write w2 on n1
kill n1
heal
wait 5s
start n1
expect leader n2 within 30s
expect durable w1
expect rule n1 within 40s
write w3
