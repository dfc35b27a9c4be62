# C-18: an operator declares the leader dead, who is only cut off, and one of the living is not heard: it may have acknowledged what nobody else has, so it must speak first.
seed 1
cluster n1 n2 n3 durability quorum
store lost 0 late 27 slow 21
late 2
load 3 198ms
cut n1 for 4s
wait 1108ms
wait 1173ms
wait 630ms
wait 790ms
cut n1 leader for 3s
wait 900ms
maybe failover losing leader
pause-host n3 for 5770ms
wait 832ms
leaderless for 961ms
wait 104ms
calm
maybe resume
expect serving within 60s
end
