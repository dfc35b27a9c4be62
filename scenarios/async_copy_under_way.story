# Async: the leader's host is lost while one of the other two is being copied from it. That one has promised, too.
cluster n1 n2 n3 durability async
lead n1
write w1
wait 1s
reinit n3
expect history "n3 is now being rebuilt" within 5s
wait 300ms
kill n1
expect leader n2 within 10s
expect durable w1
expect voter n3 within 30s
