# C-18: the lone leader's disk is gone for good. The operator accepts that, once, in words.
cluster n1 n2 witness w durability quorum-relaxed
lead n1
write w1
kill n2
expect rule nobody within 10s
kill n1
start n2
wait 5s
expect no leader
failover
expect refused TAN0617
expect refused "n1 (never heard by this agent)"
failover losing n1
expect accepted
expect said "n2 leads term 2"
expect said "n1: unknown, this agent never heard it"
expect leader n2 within 5s
expect durable w1
start n1                        # banned: it comes back as somebody new
expect history "n1 joined with an empty disk (life 2)" within 20s
expect rule n1 within 40s
write w2
