# A postmaster that answers nobody is as good as dead.
cluster n1 n2 n3 durability quorum
lead n1
write w1
freeze n1 postmaster
expect leader n2|n3 within 6s
expect durable w1
expect voter n1 within 30s
