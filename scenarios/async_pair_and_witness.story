# Async, O-2: a witness has no server whose ack path could be cut, so its promise alone fences by time.
cluster n1 n2 witness w durability async
lead n1
write w1
wait 1s
kill n1
expect leader n2 within 8s
expect durable w1
start n1
expect voter n1 within 30s
