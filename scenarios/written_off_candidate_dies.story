# C-18: the one elected after a loss was accepted dies before it opens. What it alone had was not given up.
cluster n1 n2 n3 durability quorum
lead n1
pause
cut n1 n3
wait 200ms
write w1                        # on n1 and n2 only
kill n1
heal
wait 5s
failover n2 losing n1
expect accepted
wait 60ms
kill n2
expect no leader for 10s
start n2
resume
expect leader n2|n3 within 10s
expect durable w1
start n1
expect rule all within 40s
