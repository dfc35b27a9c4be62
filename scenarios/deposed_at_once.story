# A leader that came by a failover is not missed out of office within 2 s of its opening.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
write w1
kill n1
expect term 2 leader n2|n3 within 5s
cut leader
expect term 2 for 1700ms
