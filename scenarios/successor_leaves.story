# The successor of a switchover is taken out before the leader has handed over: nobody shuts down for it.
cluster n1 n2 n3 durability quorum
lead n1
write w1
switchover n2
remove n2
expect term 1 for 9s
write w2
expect history "called off" within 5s
expect gone n2 within 5s
expect term 1 leader n1
