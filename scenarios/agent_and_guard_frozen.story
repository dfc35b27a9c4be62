# Agent and guard of the leader stand still while its server goes on: after P it is missed all the same.
cluster n1 n2 n3 durability quorum
lead n1
wait 1s
write w1
freeze n1 guard for 60s
freeze n1 agent for 60s
expect term 2 leader n2|n3 within 9s
write w2
end
