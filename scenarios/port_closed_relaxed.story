# In quorum-relaxed the leader does not go on alone while its two standbys can do without it.
cluster n1 n2 n3 durability quorum-relaxed
lead n1
load 40 100ms
wait 2s
close-port n1
expect term 2 leader n2|n3 within 9s
expect serving within 8s
heal
expect rule all within 30s
end
