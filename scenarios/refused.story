# What can't be done safely is refused or called off, in words.
cluster n1 n2 n3 durability quorum
lead n1
kill n3
wait 5s
switchover n3
expect refused TAN0107
switchover n1
expect refused TAN0107
remove n1
expect refused TAN0116
start n3
expect rule all within 20s
kill n3
wait 800ms
switchover n3      # it has just died and is still in the rule
wait 15s
expect term 1 leader n1
expect history "called off"
