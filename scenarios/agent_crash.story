# An agent that dies and is back within 200 ms changes nothing.
cluster n1 n2 n3 durability quorum
lead n1
crash n1 agent
expect term 1 for 5s
write w1
crash n2 agent
crash n3 agent
expect term 1 for 5s
write w2
