# C-15: the one for whom a strict leader's opening waits comes back with a tail that nobody acknowledged.
cluster n1 n2 witness w durability quorum
lead n1
write w1
cut n1 n2
write w2 on n1                  # n1 alone has it
kill n1
heal
expect no leader for 10s        # n2 was elected and stays closed: it has no standby
expect unacked w2
start n1
expect leader n2 within 30s
expect durable w1
expect voter n1 within 30s
write w3
