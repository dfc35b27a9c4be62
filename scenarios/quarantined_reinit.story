# Somebody else's database is quarantined, and made anew when an operator says so.
cluster n1 n2 n3 durability quorum
lead n1
write w1
replace n2
expect history "n2 is now quarantined" within 5s
expect rule n3 within 10s
write w2
nonsense
reinit n2
expect voter n2 within 20s
expect rule all within 20s
write w3
