# The leader's disk hangs: it can neither acknowledge nor resign, falls silent, and another takes over. When the disk
# works again it follows.
seed 11
cluster n1 n2 n3 durability quorum
lead n1
load 3 60ms
stall n1 for 60s
expect term 1 for 5s
expect leader n2|n3 within 7s
expect serving within 2s
wait 50s
expect rule all within 60s
end
