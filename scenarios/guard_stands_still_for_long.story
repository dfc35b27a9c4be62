# A guard that answers nobody for 8 s is given up: its agent kills the server, and ends.
cluster n1 n2 n3 durability quorum
lead n1
wait 1s
write w1
freeze n2 guard for 12s
freeze n1 guard for 12s
wait 14s
expect leader n1|n2|n3 within 20s
write w2
expect durable w1
end
