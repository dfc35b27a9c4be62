# An operator forces another leader while the old one is well.
cluster n1 n2 n3 durability quorum
lead n1
write w1
failover n3
expect term 2 leader n3 within 3s
expect durable w1
expect rule all within 20s
write w2
