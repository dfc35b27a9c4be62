# C-13: paused, a crashed leader leads again on its own node, also when another is its equal and comes first by name.
cluster n1 n2 n3 durability quorum
lead n3
write w1
pause
kill n3 postmaster
expect term 2 leader n3 within 5s
expect durable w1
kill n3 postmaster
failover                        # an operator's word passes
expect leader n1|n2 within 5s
expect durable w1
