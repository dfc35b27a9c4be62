# C-14: a rule change towards a standby that dies meanwhile can't be proven. A new term leads out of it, and commits go on.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
reinit n2
expect history "changing from 'any 1 of n2, n3' to 'any 1 of n3'" within 2s
kill n3
write w2 on n1
expect term 2 leader n1|n2 within 30s
expect durable w1
write w3
start n3
expect rule all within 60s
