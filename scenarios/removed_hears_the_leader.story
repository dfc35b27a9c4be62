# Who was taken out has no say any more: its agent still runs and hears the leader whom all members miss.
cluster n1 n2 n3 n4 durability quorum
lead n1
remove n4
expect gone n4 within 10s
expect rule n2 n3
write w1
cut n1 n2
cut n1 n3
expect leader n2|n3 within 6s
expect durable w1
