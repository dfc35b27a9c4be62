# Async: a killed postmaster loses nothing; a lost host is waited out by time.
cluster n1 n2 n3 durability async
lead n1
write w1
kill n1 postmaster
expect term 2 within 3s
expect leader n1|n2|n3 within 3s
expect durable w1
write w2
expect voter n1 within 20s
wait 5s
switchover n1
expect leader n1 within 3s
write w3
wait 5s
kill n1
expect no leader for 3200ms
expect leader n2|n3 within 8s
expect durable w3     # it had been replicated
