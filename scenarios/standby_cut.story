# A standby that alone misses the leader begins nothing (C-24).
cluster n1 n2 n3 durability quorum
lead n1
cut n3
expect term 1 for 10s
write w1
expect rule n2 within 5s
heal
expect rule all within 20s
expect term 1
