# Relaxed, shrunk to the leader alone, then async: the rule stays what it is, and what it promises does not.
# With the old promise a lost leader would be waited for, since only its own word ends a rule of its own.
cluster n1 n2 witness w durability quorum-relaxed
lead n1
write w1
kill n2
expect rule nobody within 15s
durability async
start n2
wait 5s
write w2
wait 2s
kill n1
expect leader n2 within 10s
expect durable w1
