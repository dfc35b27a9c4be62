# C-18: the lone leader's disk was replaced. Its old life can be given up; the new one is well and is not banned.
cluster n1 n2 witness w durability quorum-relaxed
lead n1
write w1
kill n2
expect rule nobody within 10s
kill n1
wipe n1
start n2
expect no leader for 10s
failover
expect refused TAN0617
failover losing n1
expect accepted
expect leader n2 within 5s
expect durable w1
expect rule n1 within 40s
