# Durability is raised from async to quorum, and before the rule has followed the leader and a standby are lost.
# The one that is left is elected though nobody has reported who could acknowledge: a copy is made from it first.
cluster n1 n2 n3 witness u witness v durability async
lead n1
write w1
wait 1s
kill n2
durability quorum
kill n1
wait 5s
wipe n2
expect leader n3 within 60s
expect durable w1
expect rule n2 within 15s
