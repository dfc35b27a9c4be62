# C-25: a guard that was started anew, as its node's server is about to be promoted, has a deadline first: its leader is heard by nobody from the moment on at which the next term was agreed.
seed 48
cluster n1 n2 n3 durability async
weather 1ms 8ms loss 0 twice 21 stray 13
store lost 143 late 0 slow 104
late 1
load 3 166ms
kill leader checkpointer
wait 1793ms
maybe resume
wait 1033ms
maybe reinit n3
wait 1190ms
lose n1 leader 12
wait 1186ms
crash leader guard
wait 1755ms
when begin-term any mute leader for 7s
maybe failover
wait 1712ms
maybe resume
leaderless for 382ms
wait 1735ms
leaderless for 570ms
calm
maybe resume
expect serving within 60s
end
