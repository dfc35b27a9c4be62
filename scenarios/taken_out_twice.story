# A standby that commits wait for is taken out, and once more before it could leave the rule.
cluster n1 n2 n3 durability quorum
lead n1
wait 2s
remove n2
expect accepted
remove n2
expect refused TAN0115
expect rule n3 within 10s
end
