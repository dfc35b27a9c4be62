# A switchover that was accepted just before everybody was lost is called off, also while the rule can't be proven again.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
switchover n2
kill n2
kill n3
crash n1 agent
expect history "called off" within 20s
expect term 1
start n2
start n3
expect rule all within 20s
expect term 1 leader n1
