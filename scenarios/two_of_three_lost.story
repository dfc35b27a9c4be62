# Leader and one standby lost together: the missing one may hold the only other copy, so nobody leads.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n1
kill n2
expect no leader for 10s
start n2
expect leader n2|n3 within 5s
expect durable w1
