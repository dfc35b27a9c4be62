# k goes up and down while walsenders stand still between their look at the settings and their replies: what one releases then is covered by a data barrier of its own (M2).
seed 33
cluster n1 n2 n3 durability quorum
weather 1ms 8ms loss 0 twice 0 stray 0
store lost 0 late 0 slow 700
lead n1
load 60 300ms
wait 3s
acks 2
wait 2500ms
acks 1
wait 2500ms
acks 2
wait 2500ms
acks 1
wait 2500ms
acks 2
wait 2500ms
acks 1
wait 2500ms
acks 2
wait 2500ms
acks 1
wait 2500ms
end
