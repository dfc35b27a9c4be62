# While a standby is made anew the leader is lost: the other one must be able to take over, since the first has left the rule before.
cluster n1 n2 n3 durability quorum
lead n1
write w1
reinit n2
expect history "n2 is now being rebuilt" within 5s
kill n1
expect term 2 leader n3 within 10s
expect durable w1
