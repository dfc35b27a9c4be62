# A switchover goes to nobody who is being taken out, and nobody who was declared dead is elected.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
wait 2s
write w1
load 4 50ms
freeze n1 agent for 900ms
switchover
expect accepted
remove n3
expect accepted
nonsense 7
wait 20s
expect serving within 20s
end
