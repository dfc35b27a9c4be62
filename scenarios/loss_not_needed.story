# C-18: a failover that names a dead node and does not need it loses nothing, and a living node is not declared dead.
cluster n1 n2 n3 durability quorum
lead n1
write w1
failover losing n1
expect refused TAN0123
failover n3 losing n2
expect refused TAN0123
expect term 1 leader n1
pause
kill n1
wait 5s
failover losing n1
expect said "nothing acknowledged is lost"
expect term 2 leader n2|n3 within 3s
expect durable w1
resume
start n1
expect rule all within 40s
