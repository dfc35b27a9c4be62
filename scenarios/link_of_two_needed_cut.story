# Both standbys have to acknowledge, and one can't be reached by the leader alone: that the other hears the leader is the word that shrinking needs (C-24).
cluster n1 n2 n3 durability quorum acks 2
lead n1
wait 4s
cut n1 n2
wait 5s
write w1
expect acked w1 within 3s
expect history "any 1 of n2, n3', agreed by n3"
expect term 1 for 5s
heal
expect rule all within 30s
end
