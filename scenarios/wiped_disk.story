# A disk that was wiped comes back as somebody new.
cluster n1 n2 n3 durability quorum
lead n1
write w1
kill n3
wipe n3
expect voter n3 within 30s
expect rule n2 n3 within 30s
kill n1 postmaster
expect leader n2|n3 within 3s
expect durable w1
