# Two data nodes and a vote-only witness: the set may shrink to the leader alone, by a stored command first.
cluster n1 n2 witness w durability quorum-relaxed
lead n1
write w1
kill n2
expect rule nobody within 10s
write w2
kill n1
expect no leader for 10s     # the lone leader's disk is the only one with w2
start n2
expect no leader for 10s
start n1
expect leader n1 within 10s
expect durable w2
expect rule n2 within 20s
kill n1
expect leader n2 within 5s
expect durable w2
