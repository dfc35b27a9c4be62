# n2 is being taken out when the leader is lost: it is no candidate, however much WAL it has.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
wait 1s
write w1
remove n2
kill n1
expect history "n3 elected" within 15s
