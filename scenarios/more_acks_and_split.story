# k was raised from 1 to 2; the leader and one standby are cut off from the three others when that was agreed, before they know: by the rule before, that standby is enough.
cluster n1 n2 n3 n4 n5 durability quorum
lead n1
wait 2s
when rule-end any cut n1 n3
when rule-end any cut n1 n4
when rule-end any cut n1 n5
when rule-end any cut n2 n3
when rule-end any cut n2 n4
when rule-end any cut n2 n5
acks 2
expect term 2 leader n3|n4|n5 within 40s
wait 20s
load 60 40ms
wait 2s
end
