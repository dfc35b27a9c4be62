# An async cluster is made quorum; its leader is cut off when it is about to put the new rule in force.
cluster n1 n2 n3 durability async
lead n1
load 4 40ms
when change-rule:1 n1 freeze it checkpointer for 20s
when change-rule:1 n1 cut it
durability quorum
expect term 2 leader n2|n3 within 20s
wait 15s
end
